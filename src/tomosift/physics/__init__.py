"""Image formation and augmentation: pure, batched functions of tensors that draw parameters, then apply them."""
