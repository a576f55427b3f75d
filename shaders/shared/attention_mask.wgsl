// Which keys a query sees: causal order, sliding window, padding.
#import attention_common

struct Keys {
    first: u32,
    end: u32,
}

// The last key that a query sees, if it does not see all.
fn last_seen(query: u32) -> i32 {
    return i32(query) + params.q_offset + select(0, params.ahead, HAS_AHEAD);
}

// The keys that any of the queries first_query..=last_query can see.
fn visible_keys(first_query: u32, last_query: u32) -> Keys {
    var keys = Keys(0u, params.kv_len);
    if (CAUSAL || HAS_WINDOW) {
        keys.end = u32(clamp(last_seen(last_query) + 1, 0, i32(params.kv_len)));
    }
    if (HAS_WINDOW) {
        let first = i32(first_query) + params.q_offset + 1 - i32(params.window);
        keys.first = u32(clamp(first, 0, i32(params.kv_len)));
    }
    return keys;
}

// Whether the query sees the key, key padding aside. `key` may lie beyond the last one.
// Without short circuits: SwiftShader's compiler does not come back from this many branches.
fn sees(query: u32, key: u32) -> bool {
    let position = i32(query) + params.q_offset;
    var visible = key < params.kv_len;
    if (CAUSAL || HAS_WINDOW) {
        visible &= i32(key) <= last_seen(query);
    }
    if (HAS_WINDOW) {
        visible &= i32(key) + i32(params.window) > position;
    }
    return visible;
}

// Whether a key is not padding. `key` is in range.
fn is_real(b: u32, key: u32) -> bool {
    if (HAS_KEY_MASK) {
        return key_mask[b * params.key_mask_batch + key] != 0u;
    }
    return true;
}
