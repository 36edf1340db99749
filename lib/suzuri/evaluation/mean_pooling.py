"""A head on the mean of the last layer's vectors, in place of the one that BERT has on [CLS]."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel


def mean_of_tokens(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The mean over a text's tokens, special ones included, as in sentence-transformers: [n, d] of [n, t, d], [n, t].

    >>> mean_of_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


class MeanPooled(nn.Module):
    """An encoder (of AutoModel) and a linear head on the mean of its last layer.

    `labels` is the number of classes, or 1 for a regression and for choices. Inputs and results are those of
    transformers' ...ForSequenceClassification and ...ForMultipleChoice.
    """

    def __init__(self, encoder: PreTrainedModel, kind: str, labels: int):
        super().__init__()
        self.encoder, self.config, self.kind = encoder, encoder.config, kind
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.0))
        self.head = nn.Linear(self.config.hidden_size, labels)
        nn.init.normal_(self.head.weight, std=self.config.initializer_range)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """input_ids: [n, t], or [n, choices, t]; the logits are [n, labels], or [n, choices]."""
        shape = input_ids.shape
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {key: value.view(-1, shape[-1]) for key, value in inputs.items() if value is not None}
        hidden = self.encoder(**inputs).last_hidden_state
        logits = self.head(self.dropout(mean_of_tokens(hidden, inputs["attention_mask"])))
        if self.kind == "choices":
            logits = logits.view(shape[:-1])
        if labels is None:
            return {"logits": logits}
        if self.kind == "regression":
            loss = F.mse_loss(logits.squeeze(-1).float(), labels.float())
        else:
            loss = F.cross_entropy(logits.float(), labels)
        return {"loss": loss, "logits": logits}
