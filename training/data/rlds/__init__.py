"""RLDS datasets as tfds writes them (Open X-Embodiment, Bridge V2, DROID), read without TensorFlow.

RLDS: arXiv 2111.02767; Open X-Embodiment: arXiv 2310.08864. The container is TFRecord
(https://www.tensorflow.org/tutorials/load_data/tfrecord), each record a `tf.train.Example` whose layout
`features.json` describes.
"""
