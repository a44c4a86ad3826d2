"""Small models with the features that torchinfo's users meet: one class per feature.

Each has the shape of a model in torchinfo's own test-suite, so that the figures which that suite
states (parameter totals, numbers of rows) can be checked here.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import torch
from torch import nn
from torch.distributions import Categorical, Distribution, Normal
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence


def digits_head(features: torch.Tensor, first: nn.Module, second: nn.Module) -> torch.Tensor:
    hidden = F.relu(first(features.flatten(1)))
    return F.log_softmax(second(hidden), dim=1)


class SingleInputNet(nn.Module):
    """The CNN of the MNIST example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.conv2_drop = nn.Dropout2d(0.3)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        return digits_head(x, self.fc1, self.fc2)


class IdentityModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.identity = nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.identity(x)


class LayerWithAnUncommonlyLongNameThatDoesNothing(IdentityModel):
    """Its name is wider than the first column."""


class LinearModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class UninitializedParameterModel(nn.Module):
    """The forward makes the parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.param: nn.Parameter = nn.UninitializedParameter()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.param = nn.Parameter(torch.zeros(128))
        return x


class MultipleInputNetDifferentDtypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1a, self.fc1b = nn.Linear(300, 50), nn.Linear(50, 10)
        self.fc2a, self.fc2b = nn.Linear(300, 50), nn.Linear(50, 10)

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        first = self.fc1b(F.relu(self.fc1a(x1)))
        second = self.fc2b(F.relu(self.fc2a(x2.type(torch.float))))
        return F.log_softmax(torch.cat((first, second), 0), dim=1)


class LSTMNet(nn.Module):
    def __init__(self, vocab: int = 20, embed: int = 300, hidden: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, embed)
        self.encoder = nn.LSTM(embed, hidden, num_layers=2)
        self.decoder = nn.Linear(hidden, vocab)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        out, state = self.encoder(self.embedding(x))
        out = self.decoder(out)
        return out.view(-1, out.size(2)), state


class RecursiveNet(nn.Module):
    """One convolution, six times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(64, 64, 3, 1, 1)

    def forward(self, x: torch.Tensor, args1: Any = None, args2: Any = None) -> torch.Tensor:
        for _ in range(6):
            x = self.conv1(x)
        return x


class CustomParameter(nn.Module):
    def __init__(self, input_size: int, attention_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(attention_size, input_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight


class ParameterListModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        parts = torch.zeros(100, 300).split([100, 200], dim=1)
        self.weights = nn.ParameterList([nn.Parameter(part.clone()) for part in parts])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class SiameseNets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 10)
        self.conv2 = nn.Conv2d(64, 128, 7)
        self.conv3 = nn.Conv2d(128, 128, 4)
        self.conv4 = nn.Conv2d(128, 256, 4)
        self.pooling = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(256, 4096)
        self.fc2 = nn.Linear(4096, 1)
        self.dropout = nn.Dropout(0.5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = self.pooling(F.relu(conv(x)))
        return self.fc1(x.flatten(1))

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        distance = torch.abs(self.features(x1) - self.features(x2))
        return torch.sigmoid(self.fc2(self.dropout(distance)))


class ReturnDictLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.conv1(x)
        second = self.conv2(F.relu(F.max_pool2d(first, 2)))
        output = digits_head(F.relu(F.max_pool2d(second, 2)), self.fc1, self.fc2)
        return {"conv1": first, "conv2": second, "output": output}


class ReturnDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.return_dict = ReturnDictLayer()

    def forward(self, x: torch.Tensor, y: Any) -> dict[str, torch.Tensor]:
        return self.return_dict(x)


class DictParameter(nn.Module):
    """Takes a dict whose keys are numbers."""

    def forward(self, x: dict[int, Any], scale_factor: int) -> torch.Tensor:
        return scale_factor * (x[256] + x[512][0])


class DictWithNonTensorValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 5)

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        assert batch["name"] is None or isinstance(batch["name"], str)
        return self.linear(batch["x"])


class ModuleDictModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.choices = nn.ModuleDict({"conv": nn.Conv2d(10, 10, 3), "pool": nn.MaxPool2d(3)})
        self.activations = nn.ModuleDict({"lrelu": nn.LeakyReLU(), "prelu": nn.PReLU()})

    def forward(self, x: torch.Tensor, layer_type: str, activation_type: str) -> torch.Tensor:
        return self.activations[activation_type](self.choices[layer_type](x))


class ObjectWithTensors:
    def __init__(self, tensors: Any) -> None:
        self.tensors = tensors


class HighlyNestedDictModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(10, 10), nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"foo": ({"bar": [ObjectWithTensors(F.softmax(self.lin2(self.lin1(x)), dim=0))]},)}


class IntWithGetitem(int):
    """A number that can be indexed."""

    tensor: torch.Tensor

    def __new__(cls, tensor: torch.Tensor) -> IntWithGetitem:
        made = super().__new__(cls, 1)
        made.tensor = tensor
        return made

    def __getitem__(self, key: int) -> torch.Tensor:
        return self.tensor * key


class EdgecaseInputOutputModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, input_list: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"foo": IntWithGetitem(self.linear(input_list.get("foo", torch.ones(3))))}


class NamedTuple(nn.Module):
    Point = namedtuple("Point", ["x", "y"])

    def forward(self, x: Any, y: Any, z: Any) -> Any:
        return self.Point(x, y).x + torch.ones(z.x)


class NumpyModel(nn.Module):
    """Takes an array and gives one back."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(3, 3)

    def forward(self, inp: Any) -> Any:
        assert not isinstance(inp, torch.Tensor)
        return self.lin(torch.from_numpy(inp)).cpu().detach().numpy()


class EdgeCaseModel(nn.Module):
    """Fails, or hands on what is no tensor."""

    def __init__(
        self, throw_error: bool = False, return_str: bool = False, return_class: bool = False
    ) -> None:
        super().__init__()
        self.throw_error, self.return_str, self.return_class = throw_error, return_str, return_class
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.model = LayerWithAnUncommonlyLongNameThatDoesNothing()

    def forward(self, x: torch.Tensor) -> Any:
        x = self.conv1(x)
        found = self.model("string output" if self.return_str else x)
        if self.throw_error:
            found = self.conv1(x)
        return self.model(EdgeCaseModel) if self.return_class else found


class PackPaddedLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 128)
        self.lstm = nn.LSTM(128, 32)
        self.hidden2out = nn.Linear(32, 18)
        self.dropout_layer = nn.Dropout(0.2)

    def forward(self, batch: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        state = torch.ones(1, batch.size(-1), 32, device=batch.device)
        packed = pack_padded_sequence(self.embedding(batch), lengths)
        _, (last, _) = self.lstm(packed, (state, state))
        return F.log_softmax(self.hidden2out(self.dropout_layer(last[-1])), dim=1)


class ContainerChildModule(nn.Module):
    """Calls a Sequential, and also its members one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._sequential = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        self._between = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self._between(self._sequential(x))
        for layer in self._sequential:
            out = layer(out)
        out = self._sequential(x)
        for layer in self._sequential:
            out = layer(out)
        return out


class ContainerModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._layers = nn.ModuleList([nn.Linear(5, 5), ContainerChildModule(), nn.Linear(5, 5)])
        self._layers.append(None)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self._layers:
            x = layer(x) if layer is not None else x
        return x


class EmptyModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parameter = torch.rand(3, 3, requires_grad=True)

    def forward(self) -> dict[str, Any]:
        return {"loss": self.parameter.sum()}


class AutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.pool = nn.MaxPool2d(2, 2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, 2)
        self.decode = nn.Sequential(nn.Conv2d(16, 3, 3, padding=1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(x)
        pooled, indices = self.pool(x)
        return self.decode(self.unpool(pooled, indices=indices, output_size=x.size()))


class PartialJITModel(SingleInputNet):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = torch.jit.script(nn.Linear(320, 50))
        self.fc2 = torch.jit.script(nn.Linear(50, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        return F.log_softmax(self.fc2(F.relu(self.fc1(x.flatten(1)))), dim=1)


class MixedTrainableParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(10))
        self.b = nn.Parameter(torch.empty(10), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w * x + self.b


class MixedTrainable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fully_trainable = nn.Conv1d(1, 1, 1)
        self.partially_trainable = nn.Conv1d(1, 1, 1)
        self.non_trainable = nn.Conv1d(1, 1, 1)
        self.dropout = nn.Dropout()
        for frozen in (self.partially_trainable.bias, *self.non_trainable.parameters()):
            assert frozen is not None
            frozen.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.non_trainable(self.partially_trainable(self.fully_trainable(x))))


class ReuseLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        linear = nn.Linear(10, 10)
        self.model = nn.Sequential(*(part for _ in range(4) for part in (linear, nn.ReLU(True))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class ReuseLinearExtended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 10)
        parts = (part for _ in range(4) for part in (self.linear, nn.ReLU(True)))
        self.model = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class ReuseReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU(True)
        parts = [nn.ReflectionPad2d(3), nn.Conv2d(4, 1, 1), nn.BatchNorm2d(1), relu]
        for width in (1, 2, 4):
            conv = nn.Conv2d(width, width * 2, 1, stride=2, padding=1)
            parts += [conv, nn.BatchNorm2d(width * 2), relu]
        self.model = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class SharedModuleInNestedList(nn.Module):
    """Blocks with a list whose members run in turn with an activation."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = self.act(layer(x))
            return x

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self.Block() for _ in range(3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class TiedWeightsModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        self.decoder = nn.Linear(16, 100, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.embedding(x))


class PrunedLayerNameModel(nn.Module):
    """A parameter with a pruned one's name, without a mask."""

    def __init__(self, input_size: int, attention_size: int) -> None:
        super().__init__()
        self.weight_orig = nn.Parameter(torch.ones(attention_size, input_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight_orig


class FakePrunedLayerModel(PrunedLayerNameModel):
    """Both names of a pruned parameter, but the mask is a parameter too."""

    def __init__(self, input_size: int, attention_size: int) -> None:
        super().__init__(input_size, attention_size)
        self.weight_mask = nn.Parameter(torch.zeros(attention_size, input_size))


class RegisterParameter(nn.Sequential):
    weights: torch.Tensor

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.register_parameter("weights", nn.Parameter(torch.zeros(len(blocks))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight, block in zip(self.weights, self, strict=True):
            x = x + weight * block(x)
        return x


class ParameterFCNet(nn.Module):
    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int | None = None) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(input_dim, hidden_dim))
        self.b = nn.Parameter(torch.randn(hidden_dim))
        self.fc2 = nn.Linear(hidden_dim, output_dim) if output_dim is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.mm(x, self.a) + self.b
        return hidden if self.fc2 is None else self.fc2(hidden)


class InsideModel(nn.Module):
    """Bare parameters at two levels."""

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.l_1 = nn.Linear(1, 1)
            self.param_1 = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.l_1(x) * self.param_1

    def __init__(self) -> None:
        super().__init__()
        self.l_0 = nn.Linear(2, 1)
        self.param_0 = nn.Parameter(torch.ones(2))
        self.inside = self.Inside()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(self.l_0(x)) * self.param_0


class RecursiveWithMissingLayers(nn.Module):
    """Two dicts of layers that are never called themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.out_conv0 = nn.Conv2d(3, 8, 5, padding="same")
        self.out_bn0 = nn.BatchNorm2d(8)
        self.block0 = self._block(1)
        self.block1 = self._block(4)
        self.out_conv7 = nn.Conv2d(8, 1, 1, padding="same")
        self.out_bn7 = nn.BatchNorm2d(1)

    @staticmethod
    def _block(start: int) -> nn.ModuleDict:
        block = nn.ModuleDict()
        for index in range(start, start + 3):
            block[f"in_conv{index}"] = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
            block[f"in_bn{index}"] = nn.BatchNorm2d(8)
        return block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.out_bn0(self.out_conv0(x)))
        for layer in (*self.block0.values(), *self.block1.values()):
            x = layer(x)
        return torch.relu(self.out_bn7(self.out_conv7(x)))


class ConvLayerA(nn.Module):
    """Layers registered in the order of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv1d(1, 1, 1), nn.ReLU(), nn.MaxPool1d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.relu(self.conv(x)))


class ConvLayerB(nn.Module):
    """Layers registered in another order than that of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.conv, self.pool = nn.ReLU(), nn.Conv1d(1, 1, 1), nn.MaxPool1d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.relu(self.conv(x)))


class CNNModuleList(nn.Module):
    def __init__(self, conv_layer_cls: type[nn.Module]) -> None:
        super().__init__()
        self.ml = nn.ModuleList([conv_layer_cls() for _ in range(5)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.ml:
            x = layer(x)
        return x


class SimpleRNN(nn.Module):
    """A cell and an activation in a loop, one more activation after it if asked for."""

    def __init__(self, repeat_outside_loop: bool = False) -> None:
        super().__init__()
        self.repeat_outside_loop = repeat_outside_loop
        self.lstm = nn.LSTMCell(3, 2)
        self.activation = nn.Tanh()
        self.projection = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, cell = torch.randn(x.size(0), 2), torch.randn(x.size(0), 2)
        for _ in range(4):
            hidden, cell = self.lstm(x, (hidden, cell))
            hidden = self.activation(hidden)
        return self.activation(self.projection(hidden)) if self.repeat_outside_loop else hidden


class MultiDeviceModel(nn.Module):
    """Halves on two devices."""

    def __init__(self, device1: str, device2: str) -> None:
        super().__init__()
        self.device1, self.device2 = device1, device2
        self.net1 = nn.Linear(10, 10, device=device1)
        self.net2 = nn.Linear(10, 5, device=device2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.net1(x.to(self.device1)))
        return self.net2(x.to(self.device2))


class TensorKernelSizeConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)
        self.kernel_size = torch.tensor(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class ScalarTensorInputNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * scale


class CategoricalOutputModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.softmax = nn.Linear(10, 5), nn.LogSoftmax(dim=-1)

    def forward(self, x: torch.Tensor) -> Distribution:
        return Categorical(logits=self.softmax(self.linear(x)))


class NormalOutputModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.scale = nn.Linear(10, 5), nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> Distribution:
        return Normal(self.mean(x), self.scale(x).exp())
