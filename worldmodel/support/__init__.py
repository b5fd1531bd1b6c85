"""What everything leans on and what knows no model: files, options, scripts, entry points, progress."""
