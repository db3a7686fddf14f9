"""``mx.optimizer``: update rules. The base and its loop: optimizer.py; the rules: sgd.py, adam.py, adaptive.py."""

from .adam import LAMB, Adam, Adamax, AdamW, Nadam
from .adaptive import AdaDelta, AdaGrad, Ftrl, RMSProp
from .optimizer import Optimizer, create, register
from .sgd import LARS, NAG, SGD, SGLD, Signum
from .updater import Updater, get_updater
