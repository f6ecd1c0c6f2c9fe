"""`python -m hf_untangle` and `accelerate launch -m hf_untangle` run the command line."""

from hf_untangle.cli.main import main

if __name__ == "__main__":
    main()
