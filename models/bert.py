"""BERT's encoder (Devlin et al. 2018, arXiv:1810.04805): post-norm transformer layers (Vaswani et al. 2017,
arXiv:1706.03762), and the model with its embeddings and pooler.

Attention runs with time first: then the heads of all samples are one batch of matrices with even strides, and what the
layer's one projection gives is read in place.
"""

from __future__ import annotations

from typing import Any

from minimx import np, npx
from minimx.errors import ArgumentError
from minimx.gluon import HybridBlock, Parameter, nn

__all__ = ["BERTEncoder", "BERTLayer", "BERTModel", "SelfAttention", "bert_base", "bert_large"]


class SelfAttention(HybridBlock):
    """softmax(Q K^T / sqrt(d)) V over ``num_heads`` heads, and the projection behind it: (T, N, C) -> (T, N, C).

    Queries, keys and values come from one product; its ``3 C`` features are (heads, 3, C / heads). dropout: of the
    attention's weights.
    """

    def __init__(self, units: int, num_heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units % num_heads:
            way_out = "Change one of them"
            raise ArgumentError("SelfAttention", f"units that {num_heads} heads divide", units, way_out)
        self._heads = num_heads
        self.qkv = nn.Dense(3 * units, flatten=False, in_units=units)
        self.proj = nn.Dense(units, flatten=False, in_units=units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any, mask: Any = None) -> Any:
        """x: (T, N, C). mask: (N, T), true where there is a token to attend to, or None for all."""
        time, batch, units = x.shape
        heads = self.qkv(x).reshape(time, batch * self._heads, 3 * units // self._heads)
        q, k, v = np.split(heads, 3, axis=2)
        scores = np.matmul(q.transpose(1, 0, 2), k.transpose(1, 2, 0)) * (units // self._heads) ** -0.5
        if mask is None:
            weights = npx.softmax(scores, axis=-1)
        else:
            scores = scores.reshape(batch, self._heads, time, time)
            weights = npx.masked_softmax(scores, mask.reshape(batch, 1, 1, time), axis=-1).reshape(-1, time, time)
        context = np.matmul(self.dropout(weights), v.transpose(1, 0, 2))
        return self.proj(context.transpose(1, 0, 2).reshape(time, batch, units))


class BERTLayer(HybridBlock):
    """Attention and two dense layers, each with dropout, a residual sum and layer norm behind: (T, N, C)."""

    def __init__(self, units: int, hidden_size: int, num_heads: int, dropout: float = 0.1, epsilon: float = 1e-12,
                 **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.attention = SelfAttention(units, num_heads, dropout)
        self.attention_norm = nn.LayerNorm(epsilon=epsilon, in_channels=units)
        self.ffn_in = nn.Dense(hidden_size, flatten=False, in_units=units)
        self.ffn_out = nn.Dense(units, flatten=False, in_units=hidden_size)
        self.ffn_norm = nn.LayerNorm(epsilon=epsilon, in_channels=units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any, mask: Any = None) -> Any:
        """As SelfAttention's."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        return self.ffn_norm(x + self.dropout(self.ffn_out(npx.gelu(self.ffn_in(x)))))


class BERTEncoder(HybridBlock):
    """``num_layers`` layers: (N, T, units) -> (N, T, units).

    hidden_size: width of the dense layers in between. dropout: of attention and of what each half of a layer adds.
    """

    def __init__(self, num_layers: int = 12, units: int = 768, hidden_size: int = 3072, num_heads: int = 12,
                 dropout: float = 0.1, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.layers = nn.HybridSequential()
        self.layers.add(*(BERTLayer(units, hidden_size, num_heads, dropout) for _ in range(num_layers)))

    def forward(self, x: Any, mask: Any = None) -> Any:
        """x: (N, T, units). mask: (N, T), true where there is a token, or None."""
        x = x.transpose(1, 0, 2)
        for layer in self.layers:
            x = layer(x, mask)
        return x.transpose(1, 0, 2)


class BERTModel(HybridBlock):
    """Embeddings of words, segments and positions, the encoder, and the pooler over the first token."""

    def __init__(self, vocab_size: int = 30522, num_layers: int = 12, units: int = 768, hidden_size: int = 3072,
                 num_heads: int = 12, dropout: float = 0.1, max_length: int = 512, segments: int = 2,
                 **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.word_embed = nn.Embedding(vocab_size, units)
        self.segment_embed = nn.Embedding(segments, units)
        self.position_embed = Parameter("position_embed", shape=(max_length, units), init="normal")
        self.embed_norm = nn.LayerNorm(epsilon=1e-12, in_channels=units)
        self.embed_dropout = nn.Dropout(dropout)
        self.encoder = BERTEncoder(num_layers, units, hidden_size, num_heads, dropout)
        self.pooler = nn.Dense(units, activation="tanh", in_units=units)

    def forward(self, tokens: Any, segments: Any, valid_length: Any = None) -> tuple[Any, Any]:
        """tokens, segments: (N, T) integers. valid_length: (N,), or None for all. Returns the encoding of every token,
        (N, T, units), and the pooled first one, (N, units).
        """
        time = tokens.shape[1]
        x = self.word_embed(tokens) + self.segment_embed(segments) + self.position_embed.beside(tokens)[:time]
        mask = None if valid_length is None else np.arange(time, dtype="int32") < np.expand_dims(valid_length, 1)
        x = self.encoder(self.embed_dropout(self.embed_norm(x)), mask)
        return x, self.pooler(x[:, 0])


def bert_base(**kwargs: Any) -> BERTModel:
    """BERT-base: 12 layers of 768 units, 12 heads. Arguments: BERTModel's."""
    return BERTModel(**kwargs)


def bert_large(**kwargs: Any) -> BERTModel:
    """BERT-large: 24 layers of 1024 units, 16 heads. Arguments: BERTModel's."""
    return BERTModel(**{"num_layers": 24, "units": 1024, "hidden_size": 4096, "num_heads": 16} | kwargs)
