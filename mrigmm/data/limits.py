"""Sizes of images and left ventricles: outside of these limits a study is questioned, never refused.

The limits are wide on purpose. They are to find a lost header, another unit, another organ or another
structure, not an unusual heart. Ranges of healthy adults are those that reference papers of cardiac MR
agree on (for example Kawel-Boehm et al., J Cardiovasc Magn Reson 2020); disease lies on both sides of them.
"""

from __future__ import annotations

# Voxels. Cardiac sequences have 0.7 to 2.5 mm in plane, and slices 4 to 20 mm apart.
IN_PLANE_MM = (0.2, 5.0)
SLICE_DISTANCE_MM = (0.2, 40.0)
MAX_SHEAR_DEGREES = 0.5  # headers are rounded; what SimpleITK refuses begins near here
MAX_TILT_DEGREES = 30.0  # between the slices of two sequences; a long axis is 90 degrees off
MAX_BETWEEN_MM = 6.0  # from a voxel of the region to the nearest slice of a sequence; 5 mm is half a step

# The ventricle. Healthy adults: 50 to 80 mm across the epicardium in the largest slice, 70 to 110 mm from
# base to apex, wall 6 to 12 mm, mass 50 to 200 g, cavity 80 to 230 ml at end-diastole.
DIAMETER_MM = (25.0, 130.0)  # of the circle with the area of the largest slice, wall included
MAX_LENGTH_MM = 160.0  # along the stack; dilated ventricles reach 130 mm
VOLUME_ML = (40.0, 800.0)  # wall included; 800 ml is twice a severely dilated one
WALL_MM = (
    3.0,
    30.0,
)  # mean around a slice, median over slices; infarcts thin, cardiomyopathy thickens a part
MASS_G = (25.0, 600.0)  # of the wall; hypertrophy reaches 400 g and, rarely, more
WHOLE_STACK_MM = 60.0  # a shorter stack shows a part, and volume and mass have no lower limit
SHORT_STACK_MM = 30.0  # less than half of the shortest ventricle

# Drawings of regions.
GAP_MM = 5.0  # of the cavity's border without wall; less is a leak between pixels
ENDS_OPEN = 2  # slices at each end whose cavity may lie open: outflow tract, and where the drawing stops
OPEN_SHARE = 0.5  # of the border, as far as that goes
APEX_MM = 25.0  # below the cavity's last slice there may be wall alone: a slice or two
PART_MM2 = 50.0  # a disc of 8 mm: a larger part beside the ventricle is no slip of the pencil
HOLE_MM2 = 50.0  # the same of a hole in the ventricle
# Drawn left ventricles in short axis (four patients, 73 slices; simulated ones): solidity 0.96 to 0.99,
# ratio of the axes 1.0 to 1.4. Simulated right ventricles: 0.50 to 0.85, and 1.8 to 2.6.
MIN_SOLIDITY = 0.9  # area by that of the convex hull, median over slices
MAX_ELONGATION = 1.6  # longer by shorter axis of the ellipse with the same moments, median over slices

# Intensities. Of the region's voxels, this share at the very maximum, and this many times as many as at the
# value below it, is a clipped scale and no tissue.
SATURATED_SHARE = 0.01
SATURATED_PEAK = 5
# Contrasts of cavity and wall in SD of the region. Measured on simulated patients and on Sunnybrook's:
# docs/data.md.
SWAPPED_CONTRAST = -0.5
MISPLACED_CONTRAST = 0.4
# Of LGE alone, 0.37 and more in 144 simulated studies (all presets, seeds 900 and 901); moved by 20 or 30 mm,
# 50 of 96 regions fall short of this.
MISPLACED_BY_LGE = 0.25
# Correlation of a sequence's edges with those of the reference, mean over the slices that another fit moves.
# Of 74 pairs, simulated (13 presets, seeds 77 and 99) and real (Sunnybrook, brains), none fits better
# otherwise; all that were mirrored or turned in plane, and 72 with their slices in reverse, do.
TURNED_MARGIN = 0.1
