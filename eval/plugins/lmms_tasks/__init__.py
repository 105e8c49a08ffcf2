"""ToyWorld-QA as tasks of lmms-eval: `toyworld_choice`, `toyworld_likelihood`, `toyworld_when`.

    timevlm synth --split test --n 2 --out toyworld
    python -m lmms_eval --model timevlm --tasks toyworld_choice --include_path FOLDER_OF_THIS_FILE

They show that an installation works, with no download. lmms-eval reads `toyworld/` in the folder
in which it is started.
"""
