"""Starting a process: flags, configs from files, several processes, one writer, one-line errors."""
