"""A run's numbers as a CSV file: ``python csv_log.py`` runs SRe2L on digits and writes ``numbers.csv``."""

import csv

from guard_plugins import configure, run


def csv_log(path):
    """Return a callback for ``run`` that writes a line for every number of every step."""
    file = open(path, "w", newline="", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115 - open for the whole run
    writer = csv.writer(file)
    writer.writerow(["loop", "step", "name", "value"])

    def heard(event):
        if event["event"] == "step":
            writer.writerows([event["loop"], event["step"], name, value] for name, value in event["numbers"].items())
        elif event["event"] == "validation":
            writer.writerows(
                [event["loop"], event["step"], f"validation {name}", event[name]] for name in ("clean", "robust")
            )

    return heard


if __name__ == "__main__":
    run(configure("sre2l", ipc=1), callback=csv_log("numbers.csv"))
