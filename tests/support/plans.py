"""Plans and dataset.json as nnU-Net writes them."""

RESAMPLINGS = ("data", "seg", "probabilities")


def stock_configuration(**changes):
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [28, 256, 256],
        "median_image_size_in_voxels": [50.0, 400.0, 300.0],
        "spacing": [5.0, 0.8, 0.8],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {"network_class_name": "a.b.C", "arch_kwargs": {"n_stages": 6}, "_kw_requires_import": []},
        "batch_dice": True,
    }
    for name in RESAMPLINGS:
        configuration[f"resampling_fn_{name}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{name}_kwargs"] = {
            "is_seg": name == "seg",
            "order": 3 if name == "data" else 1,
            "order_z": 0,
            "force_separate_z": None,
        }
    return configuration | changes


def stock_plans(**changes):
    """Plans as nnU-Net writes them for sagittal slices 5 mm thick: it moves the last axis of the image to the front."""
    plans = {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [5.0, 0.8, 0.7],
        "original_median_shape_after_transp": [50, 400, 300],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "configurations": {
            "2d": stock_configuration(patch_size=[256, 256], spacing=[0.8, 0.8], data_identifier="nnUNetPlans_2d"),
            "3d_lowres": stock_configuration(
                next_stage="3d_cascade_fullres", data_identifier="nnUNetPlans_3d_lowres", spacing=[5.0, 1.6, 1.6]
            ),
            "3d_fullres": stock_configuration(),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "max": 3000.0,
                "mean": 99.0,
                "median": 90.0,
                "min": -900.0,
                "percentile_00_5": -50.0,
                "percentile_99_5": 300.0,
                "std": 60.0,
            }
        },
    }
    return plans | changes


DATASET_JSON = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii"}
