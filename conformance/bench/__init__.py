"""`make bench`: the commands of ocirun, runc and crun on the same bundles, measured side by side."""
