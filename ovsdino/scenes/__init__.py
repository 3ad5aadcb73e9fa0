"""Generated streets and rooms with exact labels: free of anyone's licence, endless, the same for a seed."""

from ovsdino.scenes.folder import write_scenes
from ovsdino.scenes.generator import Kind, Scene, scene
from ovsdino.scenes.names import INDOOR_CLASSES, SCENE_CLASSES, STREET_CLASSES

__all__ = ["INDOOR_CLASSES", "SCENE_CLASSES", "STREET_CLASSES", "Kind", "Scene", "scene", "write_scenes"]
