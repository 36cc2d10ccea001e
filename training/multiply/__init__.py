"""Few demonstrations into many, after MimicGen (arXiv 2310.17596).

:mod:`.frames` says in which object's frame a skill's motion is the same everywhere, :mod:`.sources` cuts the motion out
of demonstrations, and :mod:`.replay` does it again in another scene. `docs/data.md` has the whole story.
"""
