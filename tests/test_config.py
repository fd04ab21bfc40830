"""The numbers of the testbed, which are the paper's and nnU-Net's."""

from nnunetv2_tpmamba.config import Testbed


def test_the_testbed_is_the_papers():
    testbed = Testbed()
    assert (testbed.spacing, testbed.patch_size, testbed.hu_window) == ((1, 1, 1), (96, 96, 96), (-200, 250))
    assert (testbed.batch_size, testbed.initial_lr, testbed.num_epochs) == (1, 2e-4, 1000)


def test_epochs_are_as_long_as_nnunets():
    testbed = Testbed()
    assert (testbed.num_iterations_per_epoch, testbed.num_val_iterations_per_epoch) == (250, 50)
