"""Task heads for what transformers has no class for: the mean of the last layer, and the kinds of task that a model
type lacks.
"""

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


class _Headed(nn.Module):
    """An encoder (of AutoModel) and a new linear layer with `outputs` outputs, initialized as transformers does it."""

    def __init__(self, encoder: PreTrainedModel, outputs: int):
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.0))
        self.head = self.linear(outputs)

    def linear(self, outputs: int) -> nn.Linear:
        layer = nn.Linear(self.config.hidden_size, outputs)
        nn.init.normal_(layer.weight, std=self.config.initializer_range)
        nn.init.zeros_(layer.bias)
        return layer


class TextHead(_Headed):
    """A head on one vector per text: the mean of the last layer, or, with pooling "cls", [CLS] through BERT's pooler.

    `labels` is the number of classes, or 1 for a regression and for choices. Inputs and results are those of
    transformers' ...ForSequenceClassification and ...ForMultipleChoice.
    """

    def __init__(self, encoder: PreTrainedModel, kind: str, labels: int, pooling: str):
        super().__init__(encoder, labels)
        self.kind = kind
        self.pooler = self.linear(self.config.hidden_size) if pooling == "cls" else None

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
        if self.pooler:
            text = torch.tanh(self.pooler(hidden[:, 0]))
        else:
            text = mean_of_tokens(hidden, inputs["attention_mask"])
        logits = self.head(self.dropout(text))
        if self.kind == "choices":
            logits = logits.view(shape[:-1])
        if labels is None:
            return {"logits": logits}
        if self.kind == "regression":
            loss = F.mse_loss(logits.squeeze(-1).float(), labels.float())
        else:
            loss = F.cross_entropy(logits.float(), labels)
        return {"loss": loss, "logits": logits}


class AnswerHead(_Headed):
    """Two logits per token, that an answer starts and that it ends there: transformers' ...ForQuestionAnswering."""

    def __init__(self, encoder: PreTrainedModel):
        super().__init__(encoder, 2)

    def forward(
        self,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **inputs: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """input_ids: [n, t], positions: [n]; the logits are [n, t]."""
        starts, ends = self.head(self.encoder(**inputs).last_hidden_state).unbind(-1)
        logits = {"start_logits": starts, "end_logits": ends}
        if start_positions is None:
            return logits
        losses = F.cross_entropy(starts.float(), start_positions), F.cross_entropy(ends.float(), end_positions)
        return {"loss": sum(losses) / 2, **logits}
