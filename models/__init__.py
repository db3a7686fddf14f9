"""``minimx.models``: the model zoo, one file per architecture, written with the public Gluon API only.

>>> import minimx
>>> net = minimx.models.get_model("resnet18_v1", classes=10)
"""

from .bert import BERTEncoder, BERTLayer, BERTModel, SelfAttention, bert_base, bert_large
from .lenet import LeNet, lenet
from .resnet import (
    BasicBlockV1,
    BasicBlockV2,
    BottleneckV1,
    BottleneckV1b,
    BottleneckV2,
    ResNetV1,
    ResNetV2,
    get_resnet,
    resnet18_v1,
    resnet18_v1b,
    resnet18_v2,
    resnet34_v1,
    resnet34_v1b,
    resnet34_v2,
    resnet50_v1,
    resnet50_v1b,
    resnet50_v2,
    resnet101_v1,
    resnet101_v1b,
    resnet101_v2,
    resnet152_v1,
    resnet152_v1b,
    resnet152_v2,
)
from .torchvision import load_torchvision
from .zoo import get_model, list_models
