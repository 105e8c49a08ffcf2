"""`python -m eval BENCH ...`: what `timevlm eval` is, for torchrun and accelerate launch."""

from eval.cli import main

if __name__ == "__main__":
    main()
