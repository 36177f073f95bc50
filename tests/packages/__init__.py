"""The wheel, installed as users install it; scripts/test-packages runs these."""
