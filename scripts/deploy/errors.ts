/** Why a deployment stops. Decisions are made on the code; the message is for the operator. */
export type DeploymentErrorCode =
  | 'UNREACHABLE'
  | 'UNAUTHORIZED'
  | 'FORBIDDEN'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'CONFLICT'
  | 'KUBECTL'
  | 'LOCKED'
  | 'MANIFEST'
  | 'NOT_READY'
  | 'CHECK_FAILED'
  | 'NOTHING_TO_GO_BACK_TO'
  | 'BROKEN_OFF';

export class DeploymentError extends Error {
  override readonly name = 'DeploymentError';
  readonly code: DeploymentErrorCode;

  constructor(code: DeploymentErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export function hasCode(error: unknown, ...codes: DeploymentErrorCode[]): boolean {
  return error instanceof DeploymentError && codes.includes(error.code);
}
