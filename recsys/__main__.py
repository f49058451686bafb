"""`python -m recsys`."""

from recsys.shadowing import leave_out_current_folder

if __name__ == "__main__":
    leave_out_current_folder()
    from recsys.cli.main import main

    main()
