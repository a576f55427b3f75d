// Which queries a workgroup works on, where it owns BLOCK_Q queries of one head. BLOCK_Q comes from
// the kernel.
#import attention_common

struct Block {
    // Whether there is such a block: the last row of a folded grid may be partly empty.
    exists: bool,
    b: u32,
    h: u32,
    g: u32,
    first_query: u32,
}

// Early and late blocks alternate, so that any run of workgroups has causal blocks of all lengths.
fn block_at(group: u32) -> Block {
    let blocks = (params.q_len + BLOCK_Q - 1u) / BLOCK_Q;
    let turn = group % blocks;
    let block = select(turn / 2u, blocks - 1u - turn / 2u, turn % 2u == 1u);
    let h = (group / blocks) % params.n_heads;
    let b = group / (blocks * params.n_heads);
    let g = h / (params.n_heads / params.n_kv_heads);
    return Block(b < params.batch, b, h, g, block * BLOCK_Q);
}

// The last query of a block, which may be short.
fn last_of(block: Block) -> u32 {
    return min(block.first_query + BLOCK_Q, params.q_len) - 1u;
}
