"""`python -m open_ldm`: the same as `ldm`, for launchers such as torchrun."""

from open_ldm.cli.main import main

if __name__ == "__main__":
    main()
