"""LeNet-5 as the reproduced report trains it."""

import torch
import torch.nn.functional as F
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 with tanh and average pooling; 61,706 parameters, PyTorch's default initialisation.

    Input: images, float32 (N, 1, 32, 32), scaled to [0, 1]. Output: logits, float32 (N, 10).
    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B,
    in the variant of the reproduced report: full connections from pool 1 to conv2, tanh without scaling,
    and a linear output layer in place of radial basis functions.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.conv3 = nn.Conv2d(16, 120, kernel_size=5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, 10)
        # Channels last is the faster layout of these small convolutions on a CPU, and fixing it here
        # fixes the bits too: another layout sums in another order.
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        x = F.avg_pool2d(torch.tanh(self.conv1(images)), 2)  # (N, 1, 32, 32) -> (N, 6, 14, 14)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)  # (N, 6, 14, 14) -> (N, 16, 5, 5)
        # conv3's window covers its whole input, so it is a matrix product, and faster as one.
        # The permutes follow the layout in memory, so that neither side is copied.
        x = x.permute(0, 2, 3, 1).flatten(1)  # (N, 16, 5, 5) -> (N, 400)
        weight = self.conv3.weight.permute(0, 2, 3, 1).flatten(1)  # (120, 16, 5, 5) -> (120, 400)
        x = torch.tanh(F.linear(x, weight, self.conv3.bias))  # (N, 400) -> (N, 120)
        x = torch.tanh(self.fc1(x))
        return self.fc2(x)
