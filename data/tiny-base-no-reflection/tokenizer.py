"""The tiny world's tokenizer: one token per word, tokenizer.json as it stands."""

from transformers import PreTrainedTokenizerFast


class TinyTokenizer(PreTrainedTokenizerFast):
    pass
