"""A model for pvio: what it returns for each frame becomes a row of the table of predictions."""

from typing import Any

import torch


class Model(torch.nn.Module):
    """Measure how much of each frame moves, and where: replace this by a model of your own.

    Its arguments are set in config.yaml: `model.args: {threshold: 0.2}`. Weights are loaded from
    the file `model.weights`, into the parameters of this module.
    """

    def __init__(self, threshold: float = 0.1) -> None:
        super().__init__()
        self.threshold = threshold

    def prepare(self, video: Any) -> None:
        """Look at a video before its frames come. Leave it out if no state per video is needed.

        It is called again by each job that has frames of the video, so the outcome must depend on
        the video alone.

        Args:
            video: `video.sample(n)` reads up to n frames of it, uint8, N×C×H×W. It has `path`,
                `n_frames`, `height`, `width`, `input_height`, `input_width`, `channels`, `rate` and
                `time_base`.
        """
        sample = video.sample(25)
        self.background = sample.float().median(dim=0).values / 255

    def forward(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the predictions of a batch. Keep no state from one call to the next.

        Args:
            frames: B×C×H×W, float32 in [0, 1]; C, H, W and the type follow `model.channels`,
                `model.size` and `model.dtype`. B is smaller than `model.batch_size` at the end.

        Returns:
            A tensor for each column of the table, with one row per frame.
        """
        difference = (frames - self.background.to(frames.device)).abs().mean(dim=1)
        moves = (difference > self.threshold).float()
        size = moves.sum(dim=(1, 2))
        rows = torch.arange(moves.shape[1], device=frames.device)
        columns = torch.arange(moves.shape[2], device=frames.device)
        # NaN where nothing moves.
        y = (moves.sum(dim=2) * rows).sum(dim=1) / size
        x = (moves.sum(dim=1) * columns).sum(dim=1) / size
        return {"moving": moves.mean(dim=(1, 2)), "position": torch.stack([x, y], dim=1)}

    def draw(self, frame: Any, row: dict[str, Any]) -> None:
        """Draw the predictions of a frame on the video. Leave it out to have the numbers written.

        Args:
            frame: a canvas with `point`, `circle`, `ellipse`, `line`, `polyline`, `box`,
                `skeleton`, `trail`, `mask` and `text`, in pixels of the upright source.
            row: the frame's columns by name, `frame`, `pts`, `time` and `status` included.
        """
        x, y = row["position"]  # with `model.size`, scale them: see docs/models.md
        frame.circle(x, y, 10, color="orange", width=2)
        frame.text(4, 4, f"{row['time']:.2f} s  {row['moving']:.1%}", background="black")
