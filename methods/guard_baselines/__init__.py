"""The floor and the yardstick of every table: noise images, and random real images."""
