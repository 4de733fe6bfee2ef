"""Network devices for containers, over netlink (rtnetlink(7)); pyroute2 is imported here alone."""
