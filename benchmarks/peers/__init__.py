"""What the training is compared with, written plainly: the course's program and torchvision's reference."""
