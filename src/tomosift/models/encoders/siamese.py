"""The encoder of COS-Net without attention."""

from tomosift.models.encoders.cosnet import CosNet


class Siamese(CosNet):
    """`CosNet` without attention."""

    attends = False


ENCODER = Siamese
