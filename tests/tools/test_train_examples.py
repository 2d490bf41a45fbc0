import json

from torchvision.models import squeezenet1_0

from repairkit.data.synthetic_faces import training_faces
from repairkit.models import zoo
from repairkit.models.training import Trained
from tools import train_examples


def test_stand_ins_are_written_where_the_named_models_look(tmp_path, monkeypatch):
    calls = []

    def no_training(images, settings, **options):
        calls.append((settings, options))
        return Trained(squeezenet1_0(num_classes=2), "squeezenet1_0", images.classes, images.name, {"seed": settings.seed}, (), (), 1.0)

    monkeypatch.setattr(train_examples, "train", no_training)
    monkeypatch.setattr(train_examples, "training_faces", lambda: training_faces(n=2))
    paths = train_examples.train_stand_ins(tmp_path)
    monkeypatch.setattr(zoo, "STAND_IN_DIRECTORY", tmp_path)
    monkeypatch.setenv("REPAIRKIT_CACHE", str(tmp_path / "cache"))
    for name, path in paths.items():
        model = zoo.load(name)
        assert model.weights == path
        assert model.stand_in
        stages = json.loads(path.with_suffix(".train.json").read_text())["stages"]
        assert len(stages) == (1 if name.endswith("dropout") else 2)
    assert [settings.filter_dropout for settings, _ in calls] == [0.0, 0.0, 0.5]
    assert [options.get("init") is None for _, options in calls] == [True, False, False]
