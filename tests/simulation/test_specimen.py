import numpy as np
import pytest
import torch
from scipy import ndimage

from tomosift.physics.rotation import rotate_upsampled, upsample
from tomosift.simulation.specimen import MASK_LEVEL, Specimen, build_specimen
from tomosift.simulation.structures.membranes_and_gold import MembranesAndGold

SHAPE = (40, 96, 96)
SPACING = 10.0


def blobs(offsets, width=2.0, size=24):
    """A lopsided heap of Gaussian blobs, so that every pose differs."""
    axis = torch.arange(size).float() - size // 2
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return sum(
        weight * torch.exp(-0.5 * ((grid - torch.tensor(offset)).norm(dim=-1) / width) ** 2)
        for weight, offset in offsets
    )


TEMPLATES = {
    "rod": blobs([(1.0, (0.0, 0.0, -4.0)), (1.5, (0.0, 0.0, 0.0)), (1.0, (0.0, 2.0, 5.0))]),
    "pair": blobs([(1.0, (-3.0, 0.0, 0.0)), (0.7, (3.0, 2.0, 0.0))], width=1.8),
    "ball": blobs([(2.0, (0.0, 0.0, 0.0))], size=16),
}


def specimen(seed=1, counts=None, shape=SHAPE, **options) -> Specimen:
    counts = {"rod": 12, "pair": 12, "ball": 12} if counts is None else counts
    return build_specimen(TEMPLATES, counts, shape, SPACING, rng=np.random.default_rng(seed), **options)


def test_every_particle_is_placed_where_there_is_room():
    packed = specimen()
    names, numbers = np.unique(packed.particles.class_name.astype(str), return_counts=True)
    assert dict(zip(names, numbers, strict=True)) == {"ball": 12, "pair": 12, "rod": 12}
    assert dict(packed.unplaced) == {}


def test_particles_that_find_no_room_are_counted_not_squeezed_in():
    packed = specimen(counts={"rod": 200}, shape=(24, 48, 48))
    assert packed.unplaced["rod"] == 200 - len(packed.particles) > 0


def test_full_packing_fills_a_fifth_of_the_slab_with_masks():
    packed = specimen(counts={"ball": 400}, shape=(24, 48, 48), gap_angstrom=0.0)
    assert (packed.instance_labels > 0).mean() > 0.2


def test_no_two_masks_come_closer_than_the_gap():
    packed = specimen(counts={"rod": 30, "pair": 30, "ball": 60}, shape=(32, 64, 64), gap_angstrom=10.0)
    labels = packed.instance_labels
    for row, box in enumerate(ndimage.find_objects(labels), start=1):
        around = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
        near = ndimage.binary_dilation(labels[around] == row)
        assert set(np.unique(labels[around][near])) <= {0, row}


def test_masks_lie_whole_inside_the_slab():
    packed = specimen(counts={"rod": 40})
    sizes = np.bincount(packed.instance_labels.ravel())[1:]
    assert sizes.min() > 0.9 * sizes.max()


def test_positions_and_rotations_are_those_of_the_density():
    packed = specimen()
    alone = np.zeros(SHAPE, dtype=np.float32)
    for row in range(len(packed.particles)):
        template = TEMPLATES[str(packed.particles.class_name[row])]
        size = template.shape[0]
        center = packed.particles.position_zyx_angstrom[row] / SPACING
        whole = np.floor(center).astype(int)
        rotation = torch.as_tensor(packed.particles.rotation[row]).float()[None]
        shift = torch.as_tensor(center - whole).float()[None]
        expected = rotate_upsampled(upsample(template[None]), 2, rotation, shift)[0].numpy()
        low = whole - size // 2
        here = tuple(slice(max(0, -a), min(size, n - a)) for a, n in zip(low, SHAPE, strict=True))
        there = tuple(slice(max(0, a), min(n, a + size)) for a, n in zip(low, SHAPE, strict=True))
        mask = expected[here] > MASK_LEVEL * float(template.max())
        alone[there] += expected[here]
        correlation = np.corrcoef(packed.density[there][mask], expected[here][mask])[0, 1]
        assert correlation > 0.98
    assert np.abs(packed.density - alone).max() < 0.05


def test_labels_name_the_class_and_row_of_the_particle_at_its_center():
    packed = specimen()
    for row in range(len(packed.particles)):
        name = str(packed.particles.class_name[row])
        inside = packed.instance_labels == row + 1
        assert {packed.label_names[k] for k in np.unique(packed.class_labels[inside])} == {name}
        center = np.asarray(ndimage.center_of_mass(inside)) * SPACING
        assert np.linalg.norm(center - packed.particles.position_zyx_angstrom[row]) < 3 * SPACING


def test_the_seed_decides_everything():
    one, same, other = specimen(3), specimen(3), specimen(4)
    np.testing.assert_array_equal(one.density, same.density)
    np.testing.assert_array_equal(one.particles.rotation, same.particles.rotation)
    assert not np.array_equal(one.density, other.density)


def test_rotations_are_proper_and_positions_are_not_whole_voxels():
    particles = specimen().particles
    np.testing.assert_allclose(np.linalg.det(particles.rotation), 1, atol=1e-5)
    fraction = particles.position_zyx_angstrom / SPACING % 1
    assert 0.2 < fraction.std() < 0.4


def test_membranes_and_gold_claim_their_voxels_and_are_no_instances():
    settings = MembranesAndGold(vesicles=1, sheets=1, gold_beads=2, vesicle_radius_angstrom=(150.0, 200.0))
    packed = specimen(counts={"rod": 5}, membranes_and_gold=settings)
    labels = packed.label_names
    membrane, gold = (packed.class_labels == labels.index(name) for name in ("membrane", "gold"))
    assert membrane.any()
    assert 2 * 400 < gold.sum() < 2 * 800  # a ball of 10 voxels across holds 524
    assert (packed.instance_labels[membrane | gold] == 0).all()
    assert packed.density[gold].mean() > 5 * packed.density[membrane].mean() > 0


def test_membrane_is_four_to_five_voxels_thick_at_ten_angstrom():
    big = MembranesAndGold(vesicles=1, vesicle_radius_angstrom=(250.0, 250.0))
    packed = build_specimen(TEMPLATES, {}, (96, 96, 96), SPACING, rng=np.random.default_rng(0), membranes_and_gold=big)
    depth = ndimage.distance_transform_edt(packed.class_labels > 0)
    assert 2.0 <= depth.max() <= 4.0


def test_a_class_without_template_is_named():
    with pytest.raises(ValueError, match="no template for ribosome"):
        specimen(counts={"ribosome": 1})


def test_a_template_of_dark_protein_is_refused():
    with pytest.raises(ValueError, match="no positive density"):
        build_specimen({"dark": -TEMPLATES["ball"]}, {"dark": 1}, SHAPE, SPACING, rng=np.random.default_rng(0))
