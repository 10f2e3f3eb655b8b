"""From what people have on disk to decoded, split, fingerprinted images; `opening.py` is the way in.

Nothing is imported here, because the processes that decode pictures import from here too and are to be up at once.
"""
