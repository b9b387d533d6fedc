/**
 * Rejects with a `TimeoutError` if the work takes longer than that. The work goes on all the same; what becomes of it then
 * is nobody's business.
 */
export async function within<T>(limitMs: number, work: Promise<T>, problem: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const error = Object.assign(new Error(problem), { name: 'TimeoutError' });
    timer = setTimeout(reject, limitMs, error);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
