"""A run's numbers at Weights & Biases, which must be installed: ``python wandb_log.py`` runs SRe2L on digits."""

from guard_plugins import configure, run


def wandb_log(project, config):
    """Return a callback for ``run`` that logs every step's numbers, by loop."""
    import wandb

    board = wandb.init(project=project, config=config.model_dump(mode="json"))

    def heard(event):
        if event["event"] == "step":
            board.log({f"{event['loop']}/{name}": value for name, value in event["numbers"].items()})
        elif event["event"] == "validation":
            board.log({f"{event['loop']}/validation {name}": event[name] for name in ("clean", "robust")})

    return heard


if __name__ == "__main__":
    settings = configure("sre2l", ipc=1)
    run(settings, callback=wandb_log("guard", settings))
