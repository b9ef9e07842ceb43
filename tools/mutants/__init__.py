"""Small faults put into the code one at a time, to see which test notices each: `make mutants`, docs/hardening.md."""
