"""What dmsynth is compared with."""
