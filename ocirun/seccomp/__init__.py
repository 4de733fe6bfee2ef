"""System call filters: from the profile of a config to a program of classic BPF, kept on disk."""
