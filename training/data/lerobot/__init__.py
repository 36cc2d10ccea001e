"""LeRobotDataset v3: many episodes a file, parquet for numbers, MP4 or PNG for images.

The format is described at https://huggingface.co/docs/lerobot/lerobot-dataset-v3, its language columns at
https://huggingface.co/docs/lerobot/language_and_recipes.
"""
