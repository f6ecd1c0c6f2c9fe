"""What "tiny" means: a small number for every size that configurations name, and the types that want other numbers.

The sizes are chosen to be told apart: query heads outnumber key-value heads, heads times their width is not the hidden size,
value heads are narrower than keys, and no FFN is as wide as anything else. An error about rows or heads cannot hide.
"""

from typing import Any

HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD_SIZE, FFN, EXPERT_FFN, EXPERTS = 32, 4, 2, 12, 40, 20, 4
VOCABULARY, POSITIONS, LAYERS = 96, 64, 2

SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "unpadded_vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "word_embed_proj_dim", "embedding_dim"), HIDDEN),
    **dict.fromkeys(("input_embedding_size", "output_embedding_size", "embedding_size", "hidden_size_global"), HIDDEN),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(("num_encoder_layers", "num_decoder_layers", "num_blocks", "depth"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_encoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_decoder_attention_heads", "attention_heads", "conf_num_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "num_query_groups"), KEY_VALUE_HEADS),
    **dict.fromkeys(("num_global_key_value_heads",), 1),
    **dict.fromkeys(
        ("head_dim", "swa_head_dim", "kv_channels", "dim_head", "global_head_dim", "d_kv", "d_head", "attention_head_size"),
        HEAD_SIZE,
    ),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "dim_ff", "dff", "d_inner"), FFN),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "intermediate_size_mlp", "dense_intermediate_size"), FFN),
    **dict.fromkeys(("feed_forward_size", "mlp_dim"), FFN),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size"), EXPERT_FFN),
    **dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size", "shared_experts_intermediate_size"), 28),
    **dict.fromkeys(("moe_shared_expert_intermediate_size",), 28),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), EXPERTS),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "num_expert_group", "topk_group"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(("q_lora_rank",), 20),
    **dict.fromkeys(("kv_lora_rank", "o_lora_rank"), 14),
    **dict.fromkeys(("qk_nope_head_dim",), 10),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 4),
    **dict.fromkeys(("qk_head_dim",), 14),
    **dict.fromkeys(("v_head_dim",), 6),
    **dict.fromkeys(("index_head_dim",), 8),
    **dict.fromkeys(("index_n_heads",), 2),
    **dict.fromkeys(("index_topk",), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_target_positions"), POSITIONS),
    **dict.fromkeys(("context_length", "max_source_positions"), POSITIONS),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size"), 16),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_heads"), 2),
    **dict.fromkeys(("linear_num_value_heads",), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("linear_value_head_dim",), 10),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size", "mamba_dt_rank", "time_step_rank"), 8),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8),
    **dict.fromkeys(("n_groups", "mamba_n_groups"), 1),
    **dict.fromkeys(("hidden_size_per_layer_input",), 8),
    **dict.fromkeys(("image_size", "crop_size"), 16),
    **dict.fromkeys(("patch_size",), 8),
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id", "cls_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
}
"""By the name that configurations give a size."""

_NGRAMS = {"ngram_vocab_size_base": 100, "heads_per_ngram": 2, "split_ngram_parts": 2, "ple_embed_dim": 8}
_SECTIONS = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}}
_MAMBA_AND_ATTENTION = {"layer_types": ["linear_attention", "full_attention"]}

OTHER_SIZES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "mamba_d_head": "auto"},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}},
    "deepseek_v2": {"n_routed_experts": EXPERTS, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots3_note": {"audio_config": None, "vision_config": None},
    "longcat_flash": {"head_dim": 4, "zero_expert_num": 2, "num_layers": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "llama4_text": {
        "num_experts_per_tok": 1,
        "num_local_experts": EXPERTS,
        "num_hidden_layers": 2,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
        "moe_layers": [1],
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": HIDDEN, "ffn_hidden_size": EXPERT_FFN, "moe_num_experts": EXPERTS, "moe_top_k": 2},
    },
    "deit": {"architectures": ["DeiTForImageClassification"]},
    "dots1": {
        "n_routed_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "num_hidden_layers": 2,
        "first_k_dense_replace": 1,
    },
    "dots3_note_text": {"num_key_value_heads": HEADS},
    "deepseek_v4": {"head_dim": HEAD_SIZE},
    "falcon_h1": {"mamba_d_ssm": HIDDEN, "mamba_d_head": 8},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "laurel_rank": 6,
        "intermediate_size": FFN,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "granitemoehybrid": _MAMBA_AND_ATTENTION,
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": HEAD_SIZE},
    "hunyuan_v1_moe": {"head_dim": HEAD_SIZE, "num_experts": EXPERTS, "moe_topk": 2},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "full_attention"], "num_hidden_layers": 3},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "ministral": {"head_dim": HEAD_SIZE},
    "nemotron": {"head_dim": HEAD_SIZE, "num_key_value_heads": KEY_VALUE_HEADS},
    "glm4v_text": _SECTIONS,
    "pixtral": {"head_dim": HIDDEN // HEADS},
    "qwen2_vl_vision": {"embed_dim": HIDDEN, "hidden_size": HIDDEN},
    "qwen2_5_vl_vision": {"out_hidden_size": HIDDEN, "fullatt_block_indexes": [1]},
    "glm4v_vision": {"out_hidden_size": HIDDEN},
    "qwen2_vl_text": _SECTIONS,
    "qwen2_5_vl_text": _SECTIONS,
    "qwen4_exp_text": _NGRAMS
    | {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 12, "indexer_budget": 16, "indexer_compress_ratio": 4},
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": HIDDEN},
    "reformer": {"is_decoder": True, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16]},
    "roc_bert": {"pronunciation_vocab_size": 96, "shape_vocab_size": 96, "pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    "xlnet": {"d_head": 8},
    "xlstm": {"chunk_size": 16},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2, "attention_head_dim": 16},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 12},
}
"""By model type: settings that the rules above do not give."""
