"""Students that ship with kdbench, a verified bundle directory each; `kdbench.student` opens them."""
