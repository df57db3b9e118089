"""What every long computation needs: device, seeds, loops, checkpoints, signals, progress."""
