"""The model zoo: one file for each architecture, written with the public Gluon API only. Installed as minimx.models."""
