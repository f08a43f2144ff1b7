"""What people look at: pair viewer, data-set report, overlay video."""
