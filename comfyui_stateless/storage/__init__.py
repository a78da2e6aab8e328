"""Where bytes come from and go to: one backend a protocol, behind one policy of where we connect."""
