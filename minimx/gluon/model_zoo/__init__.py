"""``gluon.model_zoo``: Gluon's place for the models of ``minimx.models``."""

from . import vision
