// grid (2, 1, 1), block (256, 1, 1), 0 bytes shared
// A transposed copy, int16 -> int16: the source runs along rows, the target along columns; by tiles, so that
// both are read and written in whole lines.
extern "C" __global__ void __launch_bounds__(256) KERNEL(const int16_t* p, int16_t* q, int tiles, int rows, int columns, int row_tiles, int column_tiles, int p_row, int p_column, int q_row, int q_column, int64_t row_magic, int64_t column_magic) {
  in_order();
  constexpr int kSide = 64, kThreads = 256;
  const int thread = threadIdx.x;
  __shared__ int16_t tile[kSide][kSide + 2];  // [column][row]
  for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
    int rest = divide(t, row_magic);
    const int row = (t - rest * row_tiles) * kSide;
    const int batch = divide(rest, column_magic);
    const int column = (rest - batch * column_tiles) * kSide;
    int at_p = row * p_row + column * p_column, at_q = row * q_row + column * q_column;
    rest = batch;

    const int high = rows - row, wide = columns - column;  // what is left of the matrix
#pragma unroll
    for (int k = 0; k < kSide * kSide; k += kThreads) {
      const int c = (k + thread) / kSide, r = (k + thread) % kSide;
      if (c < wide && r < high) tile[c][r] = p[at_p + r * p_row + c * p_column];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kSide * kSide; k += kThreads) {
      const int r = (k + thread) / kSide, c = (k + thread) % kSide;
      if (c < wide && r < high) q[at_q + r * q_row + c * q_column] = to<int16_t>(tile[c][r]);
    }
    __syncthreads();
  }
}
