"""From line images to a checkpoint worth shipping."""
