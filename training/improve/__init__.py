"""Experience makes a policy better, in the manner of RECAP (pi*0.6, Physical Intelligence 2025, arXiv 2511.14759).

Runs and rollouts are labelled by how they came out (:mod:`.experience`, :mod:`.records`, :mod:`.rollouts`), a value
function learns what to expect (:mod:`.value`), advantages say which moments were better than that
(:mod:`.advantages`), the next generation learns from all of it and is told which is which (:mod:`.learning`), and is
measured against the last on the same seeds (:mod:`.measuring`). :mod:`.generations` puts it together.
"""
