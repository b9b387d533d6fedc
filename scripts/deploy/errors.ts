/** Why a deployment stops. Decisions are made on the code; the message is for the operator. */
export type DeploymentErrorCode =
  /** kubectl does not reach the API server. A pod that does not answer is another matter: NO_ANSWER. */
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
  | 'NO_ANSWER'
  | 'NOTHING_TO_GO_BACK_TO'
  | 'NOT_BACK'
  | 'NOT_REDRIVEN'
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

/** Nothing can be done about it from here, so nothing more is tried. */
export const isOutOfReach = (error: unknown) => hasCode(error, 'UNREACHABLE', 'UNAUTHORIZED');

export const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
