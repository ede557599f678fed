"""Federated averaging with Flower's own means: what `benchmarks.federation` measures beside Sottovoce."""

import pandas as pd
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


@client.train()
def train(message: Message, context: Context) -> Message:
    rows = pd.read_csv(str(context.node_config["data"]))
    features = torch.tensor(rows[["age", "lab"]].to_numpy(), dtype=torch.float32) / torch.tensor([95.0, 12.0])
    labels = torch.tensor((rows["died"] == "yes").to_numpy(), dtype=torch.float32)[:, None]
    module = network()
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(features, labels), batch_size=64, shuffle=True)
    for _ in range(2):
        for batch, wanted in data:
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(module(batch), wanted).backward()
            optimizer.step()
    metrics = MetricRecord({"num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(module.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    initial = ArrayRecord(network().state_dict())
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
    strategy.start(grid=grid, initial_arrays=initial, num_rounds=int(context.run_config["rounds"]))
