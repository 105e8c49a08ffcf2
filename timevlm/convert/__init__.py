"""Published checkpoints -> ours, as visible name tables.

`python -m timevlm.convert SRC DST` recognises what SRC holds: a TimeViper model, a NemotronH
language model (with or without TransV), or a SigLIP model, and writes DST as safetensors and JSON.
"""
