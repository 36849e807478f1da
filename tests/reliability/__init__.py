"""Machines that try to break the promises: deaths, power cuts, failing disks, bad networks, hostile sequences.

`docs/reliability.md` tells what each found.

The law: a machine counts its tries, prints its seed (`--seed` repeats a run, `--tries` makes it longer), and is shown to catch a fault that was
put in on purpose (`faults.py`).
"""
